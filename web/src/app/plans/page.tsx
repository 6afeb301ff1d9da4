import type { Metadata } from "next";
import { PlanList } from "~/host/plan-list";

export const metadata: Metadata = { title: "Plans" };

export default function Page() {
  return <PlanList />;
}
