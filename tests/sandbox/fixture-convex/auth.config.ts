import type { AuthConfig } from "convex/server";

export default {
  providers: [
    { domain: process.env.NEXT_PUBLIC_CLERK_FRONTEND_API_URL as string, applicationID: "convex" },
    {
      type: "customJwt",
      issuer: "https://robot.example",
      jwks: process.env.ROBOT_JWKS as string,
      algorithm: "ES256",
      applicationID: "fixture",
    },
  ],
} satisfies AuthConfig;
