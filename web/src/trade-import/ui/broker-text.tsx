import { clipped, visible } from "../format/foreign";
import { classes } from "./classes";

/** What a broker sent, as text and nothing else: its own direction, no control characters, not longer than `most`. */
export function BrokerText({ className, most = 64, text }: { className?: string; most?: number; text: string }) {
  const shown = clipped(visible(text), most);
  return (
    <bdi className={classes("ti-foreign", className)} title={shown.cut ? clipped(visible(text), 2_000).text : undefined}>
      {shown.text}
    </bdi>
  );
}
