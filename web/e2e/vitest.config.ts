import { defineConfig } from "vitest/config";

// Each file starts a world of its own; two cores carry one at a time.
export default defineConfig({
  root: import.meta.dirname,
  test: {
    environment: "node",
    fileParallelism: false,
    hookTimeout: 120_000,
    include: ["**/*.test.ts"],
    maxWorkers: 1,
    testTimeout: 120_000,
  },
});
