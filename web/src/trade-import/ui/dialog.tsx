"use client";

import * as Radix from "@radix-ui/react-dialog";
import { X } from "lucide-react";
import { useRef, type ReactNode } from "react";
import { Button } from "./button";
import { classes } from "./classes";

type Props = {
  children: ReactNode;
  description?: ReactNode;
  /** The buttons, the deciding one last. */
  footer?: ReactNode;
  /** Takes the focus elsewhere than where it came from. */
  onClosed?: () => void;
  onOpenChange: (open: boolean) => void;
  open: boolean;
  title: string;
  wide?: boolean;
};

/** A window over the page; a sheet from below where the screen is narrow. Focus returns to where it came from, or to the page's title. */
export function Dialog({ children, description, footer, onClosed, onOpenChange, open, title, wide = false }: Props) {
  const opener = useRef<Element | null>(null);
  const giveBackFocus = (event: Event) => {
    event.preventDefault();
    if (onClosed !== undefined) {
      onClosed();
      return;
    }
    const back = opener.current?.isConnected ? opener.current : document.querySelector("main h1");
    if (back instanceof HTMLElement) back.focus();
  };
  return (
    <Radix.Root open={open} onOpenChange={onOpenChange}>
      <Radix.Portal>
        <Radix.Overlay className="fixed inset-0 z-40 bg-black/45" />
        <Radix.Content
          onOpenAutoFocus={() => (opener.current = document.activeElement)}
          onCloseAutoFocus={giveBackFocus}
          {...(description === undefined ? { "aria-describedby": undefined } : {})}
          className={classes(
            "fixed inset-x-0 bottom-0 z-50 flex max-h-[92dvh] flex-col rounded-t-xl bg-ti-surface text-ti-ink shadow-ti-pop outline-none",
            "sm:inset-x-auto sm:top-1/2 sm:bottom-auto sm:left-1/2 sm:max-h-[86dvh] sm:w-[calc(100%-2rem)] sm:-translate-x-1/2 sm:-translate-y-1/2 sm:rounded-xl",
            wide ? "sm:max-w-3xl" : "sm:max-w-lg",
          )}
        >
          <div className="flex items-start gap-3 px-5 pt-4 pb-3">
            <div className="min-w-0 flex-1">
              <Radix.Title className="text-base font-semibold">{title}</Radix.Title>
              {description === undefined ? null : (
                <Radix.Description className="mt-1 text-ti-muted">{description}</Radix.Description>
              )}
            </div>
            <Radix.Close asChild>
              <Button look="quiet" size="icon" aria-label="Close" className="-mt-1 -mr-2">
                <X aria-hidden className="size-4" />
              </Button>
            </Radix.Close>
          </div>
          {/* What is longer than the screen scrolls by keyboard too. */}
          {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
          <div tabIndex={0} className="ti-focus-inset min-h-0 flex-1 overflow-y-auto px-5 pb-4">
            {children}
          </div>
          {footer === undefined ? null : (
            <div className="flex flex-wrap justify-end gap-2 border-t border-ti-line px-5 py-3">{footer}</div>
          )}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
