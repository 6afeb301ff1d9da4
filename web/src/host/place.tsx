import type { ReactNode } from "react";

export function Place({ children, title }: { children: ReactNode; title: string }) {
  return (
    <main className="mx-auto max-w-[90rem] px-3 pt-4 pb-24 sm:px-5">
      <h1 className="mb-4 text-lg font-semibold tracking-tight">{title}</h1>
      {children}
    </main>
  );
}
