import Link from "next/link";

const navigation = [
  { href: "/", label: "Dashboard" },
  { href: "/trades", label: "Trades" },
  { href: "/campaigns", label: "Campaigns" },
];

export function Header() {
  return (
    <nav>
      {navigation.map(({ href, label }) => (
        <Link key={href} href={href}>
          {label}
        </Link>
      ))}
    </nav>
  );
}
