import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Vitest leaves one core to the editor; here nobody edits meanwhile.
    maxWorkers: 2,
    projects: [
      {
        // Convex functions and their pure rules, in the runtime that resembles Convex's.
        test: {
          name: "convex",
          include: ["tests/convex/**/*.test.ts", "convex/**/*.test.ts"],
          environment: "edge-runtime",
          server: { deps: { inline: [/convex-test/] } },
        },
      },
      {
        // docs/merge.md, followed to the letter; runs checks and tests of its own on the result.
        test: {
          name: "merge",
          include: ["tests/merge/**/*.test.ts"],
          environment: "node",
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        // The local Convex server, as clients see it.
        test: {
          name: "sandbox",
          include: ["tests/sandbox/**/*.test.{ts,tsx}"],
          environment: "node",
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
