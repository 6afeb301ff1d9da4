"use client";

import * as Popover from "@radix-ui/react-popover";
import { Command } from "cmdk";
import { useMemo, useState, type RefObject } from "react";
import type { Campaign, InboxRow, Plan } from "../api";
import { BrokerText } from "../ui/broker-text";
import { classes } from "../ui/classes";
import { campaignChoices, planChoices } from "./model/choices";
import type { Link } from "./model/decisions";
import { nameOf } from "./model/sentences";

export type Choosing = { anchor: Element; kind: "campaign" | "plan"; rows: readonly InboxRow[] };

type Props = {
  campaigns: readonly Campaign[] | undefined;
  choosing: Choosing;
  onChoose: (link: Link) => void;
  onClose: () => void;
  /** Takes the focus where it belongs. */
  onClosed: () => void;
  onNewPlan: (name: string) => void;
  plans: readonly Plan[] | undefined;
};

/** Choose a plan or a campaign by typing; Enter takes the first and saves. There is one of it, wherever it opens. */
export function Chooser({ campaigns, choosing, onChoose, onClose, onClosed, onNewPlan, plans }: Props) {
  const [typed, setTyped] = useState("");
  const { anchor, kind, rows } = choosing;
  const anchorRef = useMemo<RefObject<Element>>(() => ({ current: anchor }), [anchor]);
  const label = kind === "plan" ? "Choose a plan" : "Choose a campaign";
  return (
    <Popover.Root open onOpenChange={(open) => !open && onClose()}>
      <Popover.Anchor virtualRef={anchorRef} />
      <Popover.Portal>
        <Popover.Content
          align="start"
          aria-label={`${label} for ${nameOf(rows)}`}
          collisionPadding={8}
          sideOffset={4}
          className="z-50 w-96 max-w-[calc(100vw-1rem)] overflow-hidden rounded-lg bg-ti-surface text-ti-ink shadow-ti-pop"
          onCloseAutoFocus={(event) => {
            event.preventDefault();
            onClosed();
          }}
        >
          <Command label={label} loop shouldFilter={false}>
            <Command.Input
              value={typed}
              onValueChange={setTyped}
              placeholder={kind === "plan" ? "Plan, symbol or campaign" : "Campaign"}
              className="h-9 w-full border-b border-ti-line bg-transparent px-3 outline-none placeholder:text-ti-muted pointer-coarse:h-11 pointer-coarse:text-base"
            />
            <Command.List label={label} className="max-h-80 overflow-y-auto p-1">
              {kind === "plan" ? (
                <PlanItems campaigns={campaigns} onChoose={onChoose} onNewPlan={onNewPlan} plans={plans} rows={rows} typed={typed} />
              ) : (
                <CampaignItems campaigns={campaigns} onChoose={onChoose} typed={typed} />
              )}
              {typed.trim() === "" || "no plan".startsWith(typed.trim().toLowerCase()) ? (
                <Item value="blank" onSelect={() => onChoose({ kind: "blank" })}>
                  <span className="text-ti-muted">{kind === "plan" ? "No plan" : "No campaign, no plan"}</span>
                </Item>
              ) : null}
            </Command.List>
          </Command>
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

type PlanItemsProps = Pick<Props, "campaigns" | "onChoose" | "onNewPlan" | "plans"> & { rows: readonly InboxRow[]; typed: string };

function PlanItems({ campaigns = [], onChoose, onNewPlan, plans, rows, typed }: PlanItemsProps) {
  const choices = useMemo(() => planChoices({ campaigns, plans: plans ?? [], rows, typed }), [campaigns, plans, rows, typed]);
  const name = typed.trim();
  return (
    <>
      {plans === undefined ? <p className="px-2 py-2 text-ti-muted">Loading plans …</p> : null}
      {plans !== undefined && choices.length === 0 && name !== "" ? <p className="px-2 py-2 text-ti-muted">No plan has this in its name, symbol or campaign.</p> : null}
      {choices.map((choice) => (
        <Item key={choice.id} value={choice.id} onSelect={() => onChoose({ kind: "plan", name: choice.name, tradePlanId: choice.id })}>
          <span className="min-w-0 flex-1">
            <span className="flex items-baseline gap-2">
              <span className="ti-foreign min-w-0 truncate">{choice.name}</span>
              <BrokerText most={16} text={choice.symbol} className="shrink-0 text-xs text-ti-muted" />
            </span>
            {choice.campaign === null ? null : <span className="ti-foreign block truncate text-xs text-ti-muted">{choice.campaign}</span>}
          </span>
          {choice.why === "suggested" ? <span className="shrink-0 text-xs text-ti-accent">suggested</span> : null}
          {choice.isClosed ? <span className="shrink-0 text-xs text-ti-muted">closed</span> : null}
        </Item>
      ))}
      {plans === undefined ? null : (
        <Item value="new" onSelect={() => onNewPlan(name)}>
          <span className="ti-foreign truncate text-ti-accent">{name === "" ? "New plan …" : `New plan “${name}” …`}</span>
        </Item>
      )}
    </>
  );
}

function CampaignItems({ campaigns, onChoose, typed }: Pick<Props, "campaigns" | "onChoose"> & { typed: string }) {
  const choices = useMemo(() => campaignChoices(campaigns ?? [], typed), [campaigns, typed]);
  return (
    <>
      {campaigns === undefined ? <p className="px-2 py-2 text-ti-muted">Loading campaigns …</p> : null}
      {campaigns !== undefined && choices.length === 0 ? <p className="px-2 py-2 text-ti-muted">No campaign matches.</p> : null}
      {choices.map(({ id, name, status }) => (
        <Item key={id} value={id} onSelect={() => onChoose({ campaignId: id, kind: "campaign", name })}>
          <span className="ti-foreign min-w-0 flex-1 truncate">{name}</span>
          {status === "active" ? null : <span className="shrink-0 text-xs text-ti-muted">{status}</span>}
        </Item>
      ))}
    </>
  );
}

function Item({ className, ...rest }: React.ComponentProps<typeof Command.Item>) {
  return (
    <Command.Item
      className={classes(
        "flex min-h-8 cursor-default items-center gap-2 rounded px-2 py-1 data-[selected=true]:bg-ti-active pointer-coarse:min-h-11",
        className,
      )}
      {...rest}
    />
  );
}
