"use client";

import { ImportShell } from "../shell/import-shell";

export function ErrorsPage() {
  return <ImportShell title="Import Errors">{null}</ImportShell>;
}
