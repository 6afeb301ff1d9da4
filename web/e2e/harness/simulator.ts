// Remote control of a simulated broker.
import { request } from "node:http";
import { request as secureRequest } from "node:https";

export async function control(address: string, method: "DELETE" | "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
  const url = new URL(path, address);
  const send = url.protocol === "https:" ? secureRequest : request;
  return await new Promise((resolve, reject) => {
    const asked = send(
      url,
      // A simulated gateway signs its own certificate, as a real one does.
      { headers: { "Content-Type": "application/json" }, method, ...(url.protocol === "https:" ? { rejectUnauthorized: false } : {}) },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          if ((answer.statusCode ?? 500) >= 400) reject(new Error(`${method} ${path}: ${String(answer.statusCode)} ${text}`));
          else resolve(text === "" ? null : JSON.parse(text));
        });
      },
    );
    asked.on("error", reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
