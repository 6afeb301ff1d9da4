import type { Metadata } from "next";
import { Suspense } from "react";
import { InboxPage } from "~/trade-import/inbox/inbox-page";

export const metadata: Metadata = { title: "Import Inbox" };

export default function Page() {
  return (
    <Suspense>
      <InboxPage />
    </Suspense>
  );
}
