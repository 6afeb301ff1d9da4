"use client";

import { useCallback, useMemo } from "react";

/** What ConvexProviderWithAuth asks of a sign-in service: here everybody is the sandbox's user. */
export function useSandboxAuth() {
  const fetchAccessToken = useCallback(async () => {
    try {
      const answer = await fetch("/host/token", { cache: "no-store" });
      return ((await answer.json()) as { token: string | null }).token;
    } catch {
      return null;
    }
  }, []);
  return useMemo(() => ({ fetchAccessToken, isAuthenticated: true, isLoading: false }), [fetchAccessToken]);
}
