import { expect, test } from "vitest";
import { accountField, authOf, CREDENTIALS, missing } from "./forms";

test("each kind makes its credentials, without what was left empty", () => {
  expect(authOf("kraken", { apiKey: " key ", apiSecret: "secret", otp: " " }, "UTC")).toEqual({
    apiKey: "key",
    apiSecret: "secret",
    kind: "kraken",
  });
  expect(authOf("ibkr_gateway", { baseUrl: "https://localhost:5000" }, "UTC")).toEqual({
    baseUrl: "https://localhost:5000",
    kind: "ibkr_gateway",
  });
  expect(
    authOf("ibkr_flex", { activityQueryId: "11", token: "123456", tokenEndsOn: "2027-01-31" }, "America/New_York"),
  ).toEqual({ activityQueryId: "11", kind: "ibkr_flex", token: "123456", tokenEndsAt: Date.UTC(2027, 0, 31, 5) });
  expect(authOf("ibkr_oauth", { accessToken: "a", accessTokenSecret: "b", consumerKey: "c", realm: "" }, "UTC")).toEqual({
    accessToken: "a",
    accessTokenSecret: "b",
    consumerKey: "c",
    kind: "ibkr_oauth",
  });
});

test("what must be filled in is named", () => {
  expect(missing(CREDENTIALS.kraken, { apiKey: " " })).toEqual(["apiKey", "apiSecret"]);
  expect(missing(CREDENTIALS.ibkr_gateway, { baseUrl: "https://localhost:5000" })).toEqual([]);
});

test("only Flex statements must be told whose account is meant", () => {
  expect(accountField("kraken")).toBeNull();
  expect(accountField("ibkr_flex")?.needed).toBe(true);
  expect(accountField("ibkr_gateway")?.needed).toBe(false);
});

test("secrets are typed where nobody reads them over a shoulder", () => {
  const shown = Object.values(CREDENTIALS)
    .flat()
    .filter(({ shape }) => shape === undefined)
    .map(({ name }) => name);
  expect(shown).toEqual(["apiKey", "baseUrl", "activityQueryId", "confirmQueryId", "consumerKey", "realm"]);
});
