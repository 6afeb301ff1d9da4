import { defineConfig } from "vitest/config";

// The pure half of the pages; what needs a browser is in e2e/.
export default defineConfig({
  resolve: { alias: { "~/convex": new URL("../convex", import.meta.url).pathname, "~": new URL("src", import.meta.url).pathname } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
