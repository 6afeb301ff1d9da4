import { classes } from "~/trade-import/ui/classes";

const FORMAT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2, minimumFractionDigits: 2, signDisplay: "exceptZero" });

/** A result of the app, which computes with float64. */
export function Money({ amount }: { amount: number }) {
  return <span className={classes("tabular-nums", amount > 0 && "text-ti-good", amount < 0 && "text-ti-bad")}>{FORMAT.format(amount)}</span>;
}
