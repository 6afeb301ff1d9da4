"use client";

import { LoaderCircle } from "lucide-react";
import type { ComponentProps, MouseEvent } from "react";
import { classes } from "./classes";

const LOOKS = {
  danger: "bg-ti-bad text-ti-on-bad hover:opacity-90",
  plain: "border border-ti-edge bg-ti-surface text-ti-ink hover:bg-ti-hover",
  primary: "bg-ti-accent text-ti-on-accent hover:opacity-90",
  quiet: "text-ti-ink hover:bg-ti-hover",
} as const;

const SIZES = {
  icon: "size-8 justify-center pointer-coarse:size-10",
  md: "min-h-8 px-3 pointer-coarse:min-h-10",
  sm: "min-h-7 px-2 text-[0.8125rem] pointer-coarse:min-h-10",
} as const;

type Props = ComponentProps<"button"> & {
  /** Work is under way: says so, takes no further click, keeps the focus. */
  busy?: boolean;
  look?: keyof typeof LOOKS;
  size?: keyof typeof SIZES;
};

/** Never `disabled` but `aria-disabled`: a disabled button loses the keyboard's place. */
export function Button({ busy = false, children, className, disabled, look = "plain", onClick, size = "md", ...rest }: Props) {
  const off = disabled === true || busy;
  const click = (event: MouseEvent<HTMLButtonElement>) => {
    if (off) event.preventDefault();
    else onClick?.(event);
  };
  return (
    <button
      type="button"
      aria-busy={busy || undefined}
      aria-disabled={off || undefined}
      className={classes(
        "ti-focus inline-flex shrink-0 items-center gap-1.5 rounded-md font-medium whitespace-nowrap select-none",
        "aria-disabled:cursor-default aria-disabled:opacity-60",
        LOOKS[look],
        SIZES[size],
        className,
      )}
      onClick={click}
      {...rest}
    >
      {busy ? <LoaderCircle aria-hidden className="ti-motion size-4 animate-spin motion-reduce:animate-none" /> : null}
      {children}
    </button>
  );
}
