"use client";

import { ConvexProviderWithAuth, ConvexReactClient } from "convex/react";

const convex = new ConvexReactClient(process.env.NEXT_PUBLIC_CONVEX_URL ?? "");

/** In the place of the app's sign-in service. */
function useAuth() {
  return { fetchAccessToken: () => Promise.resolve(null), isAuthenticated: false, isLoading: false };
}

export function Providers({ children }: { children: React.ReactNode }) {
  return (
    <ConvexProviderWithAuth client={convex} useAuth={useAuth}>
      {children}
    </ConvexProviderWithAuth>
  );
}
