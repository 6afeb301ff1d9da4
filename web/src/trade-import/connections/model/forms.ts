// What a person enters to connect, and the credentials it makes.
import type { Auth, ConnectionKind } from "../../api";
import { startOfDay } from "../../format/instant";

export type FieldSpec = {
  hint?: string;
  label: string;
  name: string;
  needed: boolean;
  placeholder?: string;
  shape?: "area" | "date" | "secret";
};

export type Values = Readonly<Record<string, string>>;

/** Credentials of each kind, in the order in which one has them at hand. */
export const CREDENTIALS: Readonly<Record<ConnectionKind, readonly FieldSpec[]>> = {
  kraken: [
    { label: "API key", name: "apiKey", needed: true },
    { label: "Private key", name: "apiSecret", needed: true, shape: "secret" },
    { hint: "Only if the key was made with a static API password.", label: "API password", name: "otp", needed: false, shape: "secret" },
  ],
  ibkr_gateway: [
    {
      hint: "Where you log in, as the worker reaches it.",
      label: "Address of the gateway",
      name: "baseUrl",
      needed: true,
      placeholder: "https://localhost:5000",
    },
  ],
  ibkr_flex: [
    { label: "Flex Web Service token", name: "token", needed: true, shape: "secret" },
    { hint: "History, corrections and fees.", label: "Id of the Activity query", name: "activityQueryId", needed: false },
    { hint: "The trades of today.", label: "Id of the Trade Confirmation query", name: "confirmQueryId", needed: false },
    {
      hint: "As Client Portal shows it; you are reminded before.",
      label: "The token ends on",
      name: "tokenEndsOn",
      needed: false,
      shape: "date",
    },
  ],
  ibkr_oauth: [
    { hint: "Nine letters.", label: "Consumer key", name: "consumerKey", needed: true },
    { label: "Access token", name: "accessToken", needed: true, shape: "secret" },
    { label: "Access token secret", name: "accessTokenSecret", needed: true, shape: "secret" },
    { hint: "limited_poa unless IBKR says otherwise.", label: "Realm", name: "realm", needed: false },
    { hint: "Leave empty where the worker has the file.", label: "private_signature.pem", name: "signatureKey", needed: false, shape: "area" },
    { hint: "Leave empty where the worker has the file.", label: "private_encryption.pem", name: "encryptionKey", needed: false, shape: "area" },
    { hint: "Leave empty where the worker has the file.", label: "dhparam.pem", name: "dhParam", needed: false, shape: "area" },
  ],
};

/** Must the account be named? A gateway's login and a Kraken key say themselves which one is meant. */
export function accountField(kind: ConnectionKind): FieldSpec | null {
  switch (kind) {
    case "kraken":
      return null;
    case "ibkr_flex":
      return { hint: "As in the statements.", label: "Account number", name: "accountRef", needed: true, placeholder: "U1234567" };
    case "ibkr_gateway":
    case "ibkr_oauth":
      return {
        hint: "Empty: the login's first account that no other connection imports.",
        label: "Account number",
        name: "accountRef",
        needed: false,
        placeholder: "U1234567",
      };
  }
}

/** The names of needed fields that are empty. */
export function missing(fields: readonly FieldSpec[], values: Values): string[] {
  return fields.filter(({ name, needed }) => needed && !values[name]?.trim()).map(({ name }) => name);
}

/** What is left empty is not sent. A token is taken to end when its last day begins, in the zone of the reader. */
export function authOf(kind: ConnectionKind, values: Values, zone: string): Auth {
  const given = (name: string) => values[name]?.trim() ?? "";
  const optional = (name: string) => (given(name) === "" ? {} : { [name]: given(name) });
  switch (kind) {
    case "kraken":
      return { apiKey: given("apiKey"), apiSecret: given("apiSecret"), kind, ...optional("otp") };
    case "ibkr_gateway":
      return { baseUrl: given("baseUrl"), kind };
    case "ibkr_flex": {
      const lastDay = startOfDay(given("tokenEndsOn"), zone);
      return {
        kind,
        token: given("token"),
        ...optional("activityQueryId"),
        ...optional("confirmQueryId"),
        ...(lastDay === null ? {} : { tokenEndsAt: lastDay }),
      };
    }
    case "ibkr_oauth":
      return {
        accessToken: given("accessToken"),
        accessTokenSecret: given("accessTokenSecret"),
        consumerKey: given("consumerKey"),
        kind,
        ...optional("realm"),
        ...optional("signatureKey"),
        ...optional("encryptionKey"),
        ...optional("dhParam"),
      };
  }
}
