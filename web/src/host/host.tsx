"use client";

import { ConvexProviderWithAuth, ConvexReactClient } from "convex/react";
import { useState } from "react";
import { useSandboxAuth } from "./auth";
import { Header } from "./header";

/** All that the app has around its pages and this folder needs: Convex, a signed-in user, navigation. */
export function Host({ address, children }: { address: string; children: React.ReactNode }) {
  const [client] = useState(() => new ConvexReactClient(address));
  return (
    <ConvexProviderWithAuth client={client} useAuth={useSandboxAuth}>
      <Header />
      {children}
    </ConvexProviderWithAuth>
  );
}
