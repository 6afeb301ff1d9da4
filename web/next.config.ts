import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { NextConfig } from "next";

const config: NextConfig = {
  devIndicators: false,
  // convex/ lies beside this package; in the app it lies inside.
  experimental: { externalDir: true },
  outputFileTracingRoot: dirname(dirname(fileURLToPath(import.meta.url))),
  poweredByHeader: false,
  reactStrictMode: true,
  // `make lint` runs eslint with the same rules; once is enough.
  eslint: { ignoreDuringBuilds: true },
};

export default config;
