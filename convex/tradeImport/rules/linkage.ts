// How a trade belongs to a plan or a campaign. The plan wins: with one, the campaign is the plan's and is
// never stored; a campaign of its own is for a trade without a plan.

type Link<PlanId, CampaignId> = { campaignId?: CampaignId; tradePlanId?: PlanId };

/**
 * The link after an edit; `null` clears, absent keeps. Choosing a plan drops a direct campaign; choosing a
 * campaign for a trade that has or gets a plan is a contradiction, answered with "conflict".
 */
export function editLink<PlanId, CampaignId>(
  before: Link<PlanId, CampaignId>,
  edit: { campaignId?: CampaignId | null; tradePlanId?: PlanId | null },
): Link<PlanId, CampaignId> | "conflict" {
  const tradePlanId = edit.tradePlanId === undefined ? before.tradePlanId : (edit.tradePlanId ?? undefined);
  if (tradePlanId !== undefined) {
    const chosen = edit.campaignId !== undefined && edit.campaignId !== null;
    return chosen ? "conflict" : { campaignId: undefined, tradePlanId };
  }
  const campaignId = edit.campaignId === undefined ? before.campaignId : (edit.campaignId ?? undefined);
  return { campaignId, tradePlanId: undefined };
}

/** Does a trade belong to the campaign that has these plans? */
export function belongsToCampaign<PlanId, CampaignId>(
  trade: Link<PlanId, CampaignId>,
  campaignId: CampaignId,
  planIds: ReadonlySet<PlanId>,
): boolean {
  return trade.tradePlanId === undefined ? trade.campaignId === campaignId : planIds.has(trade.tradePlanId);
}
