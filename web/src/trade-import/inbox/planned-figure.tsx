"use client";

import { useQuery } from "convex/react";
import { api } from "../api";
import { useZone } from "../hooks/use-zone";
import { rowFiltersOf, type Filters } from "./model/filters";
import { countOf } from "./model/sentences";

const money = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2, minimumFractionDigits: 2, signDisplay: "exceptZero" });

/** Trades with a plan against those without, over the days that the filters name. */
export function PlannedFigure({ filters }: { filters: Filters }) {
  const { from, to } = rowFiltersOf(filters, useZone());
  const figures = useQuery(api.tradeImport.analytics.planned, {
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  });
  const parts = [
    { figure: figures?.planned, name: "With a plan" },
    { figure: figures?.unplanned, name: "Without a plan" },
  ];
  return (
    <section aria-label="Planned against unplanned" className="mb-3 flex flex-wrap gap-x-8 gap-y-1 rounded-md border border-ti-line bg-ti-surface px-3 py-2 text-[0.8125rem]">
      {parts.map(({ figure, name }) => (
        <p key={name} className="tabular-nums">
          <span className="text-ti-muted">{name}: </span>
          {figure === undefined ? (
            "…"
          ) : (
            <>
              {countOf(figure.tradeCount, "trade")}, realized{" "}
              <span className={figure.realizedPL < 0 ? "text-ti-bad" : figure.realizedPL > 0 ? "text-ti-good" : ""}>{money.format(figure.realizedPL)}</span>
              <span className="text-ti-muted">
                {" "}
                ({figure.winningTrades} won, {figure.losingTrades} lost)
              </span>
            </>
          )}
        </p>
      ))}
    </section>
  );
}
