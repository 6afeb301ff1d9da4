"use client";

import { ImportShell } from "../shell/import-shell";

export function InboxPage() {
  return <ImportShell title="Import Inbox">{null}</ImportShell>;
}
