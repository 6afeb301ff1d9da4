"use client";

import { useQuery } from "convex/react";
import { api } from "~/convex/_generated/api";
import type { Id } from "~/convex/_generated/dataModel";
import { countsForAnalytics } from "~/convex/tradeImport/rules/analytics";
import { belongsToCampaign } from "~/convex/tradeImport/rules/linkage";
import { BrokerText } from "~/trade-import/ui/broker-text";
import { Instant } from "~/trade-import/ui/instant";
import { LoadingRows } from "~/trade-import/ui/states";
import { Money } from "./money";
import { Place } from "./place";

export function CampaignDetail({ campaignId }: { campaignId: Id<"campaigns"> }) {
  const campaign = useQuery(api.campaigns.getCampaign, { campaignId });
  const figures = useQuery(api.campaigns.getCampaignPL, { campaignId });
  const plans = useQuery(api.tradePlans.listTradePlansByCampaign, { campaignId });
  const trades = useQuery(api.trades.listTrades, {});
  if (campaign === undefined || figures === undefined || plans === undefined || trades === undefined) {
    return (
      <Place title="Campaign">
        <LoadingRows label="Loading the campaign" />
      </Place>
    );
  }
  if (campaign === null) return <Place title="There is no such campaign">{null}</Place>;
  const planIds = new Set(plans.map(({ _id }) => _id));
  // The app's filter admits only trades of the campaign's plans; this one also those linked to it directly.
  const shown = trades.filter((trade) => countsForAnalytics(trade) && belongsToCampaign(trade, campaignId, planIds));
  return (
    <Place title={campaign.name}>
      <dl className="mb-4 flex flex-wrap gap-x-8 gap-y-2 tabular-nums">
        <Figure name="Realized P&L">
          <Money amount={figures.realizedPL} />
        </Figure>
        <Figure name="Trades">{figures.tradeCount}</Figure>
        <Figure name="Winning">{figures.winningTrades}</Figure>
        <Figure name="Losing">{figures.losingTrades}</Figure>
      </dl>
      <h2 className="mb-2 font-semibold">Trades</h2>
      {shown.length === 0 ? (
        <p className="text-ti-muted">No trade belongs to this campaign yet.</p>
      ) : (
        <div className="overflow-x-auto rounded-lg border border-ti-line bg-ti-surface">
          <table className="w-full tabular-nums">
            <thead className="text-left text-ti-muted">
              <tr>
                <th className="px-4 py-2 font-normal">Time</th>
                <th className="px-2 py-2 font-normal">Symbol</th>
                <th className="px-2 py-2 font-normal">Side</th>
                <th className="px-2 py-2 text-right font-normal">Quantity</th>
                <th className="px-2 py-2 text-right font-normal">Price</th>
                <th className="px-2 py-2 text-right font-normal">Result</th>
                <th className="px-4 py-2 font-normal">Plan</th>
              </tr>
            </thead>
            <tbody className="divide-y divide-ti-line border-t border-ti-line">
              {shown.map((trade) => (
                <tr key={trade._id}>
                  <td className="px-4 py-1.5 whitespace-nowrap">
                    <Instant at={trade.date} />
                  </td>
                  <td className="px-2 py-1.5">
                    <BrokerText text={trade.ticker} most={40} />
                  </td>
                  <td className="px-2 py-1.5">
                    {trade.side} {trade.direction}
                  </td>
                  <td className="px-2 py-1.5 text-right">{trade.quantity}</td>
                  <td className="px-2 py-1.5 text-right">{trade.price}</td>
                  <td className="px-2 py-1.5 text-right">{trade.realizedPL === null ? "" : <Money amount={trade.realizedPL} />}</td>
                  <td className="px-4 py-1.5 text-ti-muted">{plans.find(({ _id }) => _id === trade.tradePlanId)?.name ?? "linked directly"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Place>
  );
}

function Figure({ children, name }: { children: React.ReactNode; name: string }) {
  return (
    <div>
      <dt className="text-ti-muted">{name}</dt>
      <dd className="text-lg font-medium">{children}</dd>
    </div>
  );
}
