"use client";

import { useQuery } from "convex/react";
import { useParams } from "next/navigation";
import { api } from "~/convex/_generated/api";
import type { Id } from "~/convex/_generated/dataModel";

export default function CampaignPage() {
  const { id } = useParams<{ id: string }>();
  const campaignId = id as Id<"campaigns">;
  const plans = useQuery(api.tradePlans.listTradePlansByCampaign, { campaignId });
  const trades = useQuery(api.trades.listTrades, {});

  const planIds = new Set(plans?.map((plan) => plan._id));
  const campaignTrades = trades?.filter((trade) => trade.tradePlanId !== undefined && planIds.has(trade.tradePlanId));

  return (
    <main>
      {campaignTrades?.map((trade) => (
        <p key={trade._id}>{trade.ticker}</p>
      ))}
    </main>
  );
}
