import type { AuthConfig } from "convex/server";

const domain = process.env.NEXT_PUBLIC_CLERK_FRONTEND_API_URL;
if (domain === undefined) {
  throw new Error("Set NEXT_PUBLIC_CLERK_FRONTEND_API_URL on the Convex deployment: the issuer of the users' tokens.");
}

export default {
  providers: [{ applicationID: "convex", domain }],
} satisfies AuthConfig;
