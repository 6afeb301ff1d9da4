import type { Metadata } from "next";
import type { Id } from "~/convex/_generated/dataModel";
import { CampaignDetail } from "~/host/campaign-detail";

export const metadata: Metadata = { title: "Campaign" };

export default async function Page({ params }: { params: Promise<{ campaignId: string }> }) {
  const { campaignId } = await params;
  return <CampaignDetail campaignId={campaignId as Id<"campaigns">} />;
}
