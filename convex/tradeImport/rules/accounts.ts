// Which account of which login a connection stands for, and which of an owner's connections mean the same one.
import type { Auth, ConnectionStatus, Provider } from "../validators";
import { sameLogin } from "./credentials";

type Connection<Id> = {
  _id: Id;
  accountRef?: string;
  auth?: Auth;
  provider: Provider;
  status: ConnectionStatus;
};

/** The account's id as its broker writes it. */
export function accountRefOf(provider: Provider, text: string): string {
  const trimmed = text.trim();
  switch (provider) {
    case "ibkr":
      return trimmed.toUpperCase();
    case "kraken":
      return trimmed;
  }
}

/** The accounts that the owner's other connections to this broker import. */
export function otherAccounts<Id>(connection: Connection<Id>, all: ReadonlyArray<Connection<Id>>): string[] {
  const refs = all
    .filter((other) => other.provider === connection.provider && other.status !== "disconnected")
    .flatMap(({ accountRef }) => accountRef ?? [])
    .filter((accountRef) => accountRef !== connection.accountRef);
  return [...new Set(refs)].sort();
}

/** The owner's other connections to the same account: what one has proven complete is complete for all. */
export function siblingsOfAccount<Id, C extends Connection<Id>>(connection: C, all: ReadonlyArray<C>): C[] {
  return all.filter(
    (other) =>
      other._id !== connection._id &&
      other.provider === connection.provider &&
      other.accountRef !== undefined &&
      other.accountRef === connection.accountRef,
  );
}

/** The owner's other connections that use the same login at the broker. */
export function siblingsOf<Id, C extends Connection<Id>>(connection: C, all: ReadonlyArray<C>): C[] {
  const { auth } = connection;
  return all.filter(
    (other) =>
      other._id !== connection._id &&
      other.status !== "disconnected" &&
      auth !== undefined &&
      other.auth !== undefined &&
      sameLogin(other.auth, auth),
  );
}

/** Does another connection import the same account through the same login? Its broker would be asked twice. */
export function hasTwin<Id>(
  candidate: Pick<Connection<Id | null>, "_id" | "accountRef" | "auth">,
  all: ReadonlyArray<Connection<Id>>,
): boolean {
  const { auth } = candidate;
  if (auth === undefined) return false;
  return all.some(
    (other) =>
      other._id !== candidate._id &&
      other.status !== "disconnected" &&
      other.auth !== undefined &&
      other.accountRef === candidate.accountRef &&
      sameLogin(other.auth, auth),
  );
}
