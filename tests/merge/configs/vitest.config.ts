import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "edge-runtime",
    include: ["**/tests/convex/**/*.test.ts"],
    // Every test makes a deployment of its own; a runtime of its own for every file takes longer than the tests.
    isolate: false,
    pool: "threads",
    server: { deps: { inline: [/convex-test/] } },
  },
});
