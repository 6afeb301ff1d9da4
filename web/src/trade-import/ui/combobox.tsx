"use client";

import * as Popover from "@radix-ui/react-popover";
import { Command } from "cmdk";
import { Check, ChevronsUpDown } from "lucide-react";
import { useState, type ReactNode } from "react";
import { classes } from "./classes";

export type Choice = {
  /** A second, quieter word: the plan's symbol, the campaign's state. */
  hint?: string;
  id: string;
  name: string;
};

type Props = {
  /** The choice that means «none»; absent where one must be chosen. */
  blank?: string;
  choices: readonly Choice[];
  className?: string;
  disabled?: boolean;
  /** What the list ends with, such as «New plan …»; gets what was typed. */
  footer?: { name: (typed: string) => string; run: (typed: string) => void };
  label: string;
  onChange: (id: string | null) => void;
  onOpenChange?: (open: boolean) => void;
  /** Absent: it opens itself. */
  open?: boolean;
  placeholder?: string;
  /** What the closed control shows instead of the chosen name. */
  shown?: ReactNode;
  value: string | null;
};

/** Choose one of many by typing. Enter takes the first match, Escape changes nothing; focus returns to the control. */
export function Combobox(props: Props) {
  const { blank, choices, className, disabled = false, footer, label, onChange, placeholder = "Type to search", shown, value } = props;
  const [openHere, setOpenHere] = useState(false);
  const [typed, setTyped] = useState("");
  const open = props.open ?? openHere;
  const setOpen = (to: boolean) => {
    setOpenHere(to);
    props.onOpenChange?.(to);
    if (!to) setTyped("");
  };
  const pick = (id: string | null) => {
    setOpen(false);
    if (id !== value) onChange(id);
  };
  const chosen = choices.find(({ id }) => id === value);
  return (
    <Popover.Root open={open} onOpenChange={setOpen}>
      <Popover.Trigger
        type="button"
        disabled={disabled}
        aria-label={`${label}: ${chosen?.name ?? blank ?? "not chosen"}`}
        className={classes(
          "ti-focus flex min-h-8 w-full min-w-0 items-center gap-1.5 rounded-md border border-ti-edge bg-ti-surface px-2 text-left hover:bg-ti-hover pointer-coarse:min-h-10 disabled:opacity-60",
          className,
        )}
      >
        <span className={classes("ti-foreign min-w-0 flex-1 truncate", !chosen && "text-ti-muted")}>
          {shown ?? chosen?.name ?? blank ?? placeholder}
        </span>
        <ChevronsUpDown aria-hidden className="size-3.5 shrink-0 text-ti-muted" />
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="start"
          aria-label={label}
          collisionPadding={8}
          sideOffset={4}
          className="z-50 w-(--radix-popover-trigger-width) min-w-64 overflow-hidden rounded-lg bg-ti-surface text-ti-ink shadow-ti-pop"
        >
          <Command label={label} loop>
            <Command.Input
              value={typed}
              onValueChange={setTyped}
              placeholder={placeholder}
              className="h-9 w-full border-b border-ti-line bg-transparent px-3 outline-none placeholder:text-ti-muted pointer-coarse:h-11"
            />
            <Command.List className="max-h-72 overflow-y-auto p-1">
              <Command.Empty className="px-2 py-3 text-ti-muted">Nothing matches.</Command.Empty>
              {choices.map((choice) => (
                <Item key={choice.id} value={choice.id} keywords={[choice.name, choice.hint ?? ""]} onSelect={() => pick(choice.id)}>
                  <Mark on={choice.id === value} />
                  <span className="ti-foreign min-w-0 flex-1 truncate">{choice.name}</span>
                  {choice.hint === undefined ? null : <span className="ti-foreign max-w-28 truncate text-xs text-ti-muted">{choice.hint}</span>}
                </Item>
              ))}
              {blank === undefined ? null : (
                <Item value="blank" keywords={[blank]} onSelect={() => pick(null)}>
                  <Mark on={value === null} />
                  <span className="text-ti-muted">{blank}</span>
                </Item>
              )}
              {footer === undefined ? null : (
                <Item
                  value="footer"
                  forceMount
                  onSelect={() => {
                    const text = typed.trim();
                    setOpen(false);
                    footer.run(text);
                  }}
                >
                  <span className="text-ti-accent">{footer.name(typed.trim())}</span>
                </Item>
              )}
            </Command.List>
          </Command>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

function Item({ className, ...rest }: React.ComponentProps<typeof Command.Item>) {
  return (
    <Command.Item
      className={classes(
        "flex min-h-8 cursor-default items-center gap-2 rounded px-2 data-[selected=true]:bg-ti-active pointer-coarse:min-h-11",
        className,
      )}
      {...rest}
    />
  );
}

function Mark({ on }: { on: boolean }) {
  return <Check aria-hidden className={classes("size-3.5 shrink-0", on ? "text-ti-accent" : "invisible")} />;
}
