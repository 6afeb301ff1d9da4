"use client";

import Link from "next/link";
import { usePathname } from "next/navigation";

const PLACES = [
  { href: "/import/inbox", name: "Import", within: "/import" },
  { href: "/campaigns", name: "Campaigns", within: "/campaigns" },
  { href: "/plans", name: "Plans", within: "/plans" },
];

export function Header() {
  const path = usePathname();
  return (
    <header className="border-b border-ti-line bg-ti-surface">
      <nav aria-label="Journal" className="mx-auto flex h-11 max-w-[90rem] items-center gap-1 px-3 sm:px-5">
        <span className="mr-3 font-semibold tracking-tight">Journal</span>
        {PLACES.map(({ href, name, within }) => (
          <Link
            key={href}
            href={href}
            aria-current={path.startsWith(within) ? "page" : undefined}
            className="ti-focus rounded px-2.5 py-1.5 text-ti-muted hover:text-ti-ink aria-[current]:bg-ti-hover aria-[current]:text-ti-ink"
          >
            {name}
          </Link>
        ))}
      </nav>
    </header>
  );
}
