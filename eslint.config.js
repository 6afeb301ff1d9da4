import convexPlugin from "@convex-dev/eslint-plugin";
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig([
  globalIgnores([
    "**/_generated/**",
    "**/node_modules/**",
    "web/**",
    ".venv/**",
    ".build/**",
    "dist/**",
    "tests/merge/pristine/**",
    "tests/merge/configs/**",
  ]),
  {
    files: ["**/*.{ts,tsx}"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // A number in a template is written as everybody expects.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
    },
  },
  ...convexPlugin.configs.recommended,
  {
    // The providers are read before any function can be, and env.ts says why it reads them so. A comment there would
    // name a rule that the app's linter does not know, which is an error to it.
    files: ["convex/auth.config.ts", "convex/tradeImport/env.ts"],
    rules: { "@convex-dev/no-process-env": "off" },
  },
  {
    // What merges into the app. The stand-in for the app itself reads whole tables and asks nobody who they
    // are, as the app does.
    files: ["convex/tradeImport/**/*.ts"],
    rules: {
      "@convex-dev/import-wrong-runtime": "error",
      "@convex-dev/no-collect-in-query": "error",
      "@convex-dev/require-access-control": "error",
      // A union that has one member so far is compared as the union it will be.
      "@typescript-eslint/no-unnecessary-condition": "off",
    },
  },
]);
