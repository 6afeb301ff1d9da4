"use client";

import { ImportShell } from "../shell/import-shell";

export function ConnectionsPage() {
  return <ImportShell title="Connections">{null}</ImportShell>;
}
