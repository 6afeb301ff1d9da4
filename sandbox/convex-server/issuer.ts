// A small OIDC issuer for the demo's users: it stands in for the app's sign-in service.
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK } from "jose";

const KEY_ID = "sandbox";
const LIFETIME_SECONDS = 3_600;

export interface TokenRequest {
  readonly subject: string;
  readonly audience?: string;
  readonly expiresInSeconds?: number;
  readonly claims?: Record<string, unknown>;
}

export class Issuer {
  private constructor(
    readonly url: string,
    private readonly privateKey: CryptoKey,
    private readonly publicKey: JWK,
    private readonly now: () => number,
  ) {}

  static async create(url: string, now: () => number): Promise<Issuer> {
    const { privateKey, publicKey } = await generateKeyPair("RS256");
    return new Issuer(url, privateKey, await exportJWK(publicKey), now);
  }

  get discovery() {
    return {
      issuer: this.url,
      jwks_uri: `${this.url}/.well-known/jwks.json`,
      authorization_endpoint: `${this.url}/authorize`,
      response_types_supported: ["id_token"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["RS256"],
    };
  }

  get jwks() {
    return { keys: [{ ...this.publicKey, kid: KEY_ID, alg: "RS256", use: "sig" }] };
  }

  /** An identity token as the app's sign-in service would give it to the browser. */
  token({ subject, audience = "convex", expiresInSeconds = LIFETIME_SECONDS, claims = {} }: TokenRequest): Promise<string> {
    const now = Math.floor(this.now() / 1000);
    return new SignJWT(claims)
      .setProtectedHeader({ alg: "RS256", kid: KEY_ID, typ: "JWT" })
      .setIssuer(this.url)
      .setAudience(audience)
      .setSubject(subject)
      .setIssuedAt(now)
      .setExpirationTime(now + expiresInSeconds)
      .sign(this.privateKey);
  }
}
