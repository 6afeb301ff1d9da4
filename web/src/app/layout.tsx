import type { Metadata, Viewport } from "next";
import { connection } from "next/server";
import { Host } from "~/host/host";
import "./globals.css";

export const metadata: Metadata = { title: { default: "Journal", template: "%s · Journal" } };
export const viewport: Viewport = { initialScale: 1, width: "device-width" };

export default async function RootLayout({ children }: { children: React.ReactNode }) {
  // The deployment's address is known when the pages are served, not when they are built.
  await connection();
  const address = process.env.CONVEX_URL;
  if (!address) throw new Error("Set CONVEX_URL to the address of the Convex deployment.");
  return (
    <html lang="en">
      <body>
        <Host address={address}>{children}</Host>
      </body>
    </html>
  );
}
