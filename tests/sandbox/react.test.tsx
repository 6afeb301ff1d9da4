// @vitest-environment happy-dom
import { ConvexProvider, ConvexReactClient, useMutation, usePaginatedQuery, useQuery } from "convex/react";
import { createRoot, type Root } from "react-dom/client";
import { afterAll, afterEach, beforeAll, test } from "vitest";
import { WebSocket } from "ws";
import { api } from "./fixture-convex/_generated/api";
import { createRobot, TestServer, until } from "./server";

let server: TestServer;
let client: ConvexReactClient;
let root: Root;
const page = document.createElement("main");

beforeAll(async () => {
  server = await TestServer.start(await createRobot());
  client = new ConvexReactClient(server.address, {
    webSocketConstructor: WebSocket as unknown as typeof globalThis.WebSocket,
    logger: false,
  });
});
afterAll(async () => {
  await client.close();
  await server.stop();
});
afterEach(() => {
  root.unmount();
});

function show(element: React.ReactNode): void {
  root = createRoot(page);
  root.render(<ConvexProvider client={client}>{element}</ConvexProvider>);
}

async function untilShown(text: string): Promise<void> {
  await until(() => page.querySelector("p")?.textContent === text, `the page showing "${text}"`).catch((error: unknown) => {
    throw new Error(`${String(error)}; it shows "${page.textContent}"`);
  });
}

function press(): void {
  page.querySelector("button")?.click();
}

function Notes() {
  const notes = useQuery(api.notes.byAuthor, { author: "react" });
  const add = useMutation(api.notes.add);
  return (
    <>
      <p>{notes === undefined ? "loading" : `notes: ${notes.join(" ")}`}</p>
      <button onClick={() => void add({ author: "react", text: `note${notes?.length ?? 0}` })}>add</button>
    </>
  );
}

test("useQuery and useMutation", async () => {
  show(<Notes />);
  await untilShown("loading");
  await untilShown("notes: ");
  press();
  await untilShown("notes: note0");
  press();
  await untilShown("notes: note0 note1");
  // Somebody else's note arrives by itself.
  await server.call("mutation", { path: "notes:add", args: { author: "react", text: "theirs" } });
  await untilShown("notes: note0 note1 theirs");
});

function Pages() {
  const { results, status, loadMore } = usePaginatedQuery(
    api.notes.page,
    { author: "pages" },
    { initialNumItems: 2 },
  );
  return (
    <>
      <p>{`${status}: ${results.map(({ text }) => text).join(" ")}`}</p>
      <button
        onClick={() => {
          loadMore(2);
        }}
      >
        more
      </button>
    </>
  );
}

test("usePaginatedQuery neither loses nor repeats rows that arrive while pages are loaded", async () => {
  const add = async (rank: number) => {
    await server.call("mutation", { path: "notes:add", args: { author: "pages", text: String(rank), rank } });
  };
  for (const rank of [10, 20, 30, 40, 50]) await add(rank);
  show(<Pages />);
  await untilShown("CanLoadMore: 10 20");
  press();
  await untilShown("CanLoadMore: 10 20 30 40");
  // Into the first page, at the seam, into the second, and behind what is loaded.
  for (const rank of [15, 25, 35, 45]) await add(rank);
  await untilShown("CanLoadMore: 10 15 20 25 30 35 40");
  press();
  await untilShown("Exhausted: 10 15 20 25 30 35 40 45 50");
  // The last page is open at its end.
  await add(60);
  await untilShown("Exhausted: 10 15 20 25 30 35 40 45 50 60");
});
