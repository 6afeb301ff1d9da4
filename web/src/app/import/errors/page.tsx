import type { Metadata } from "next";
import { Suspense } from "react";
import { ErrorsPage } from "~/trade-import/errors/errors-page";

export const metadata: Metadata = { title: "Import Errors" };

export default function Page() {
  return (
    <Suspense>
      <ErrorsPage />
    </Suspense>
  );
}
