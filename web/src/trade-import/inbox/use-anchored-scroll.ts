"use client";

import type { Virtualizer } from "@tanstack/react-virtual";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import type { Line } from "./model/lines";

/**
 * Keeps what the user looks at where it is while lines come, go and change their height above it. Returns how many have come above since the
 * list was last at its top.
 */
export function useAnchoredScroll(
  virtualizer: Virtualizer<Window, Element>,
  lines: readonly Line[],
  cursor: string | null,
  list: React.RefObject<HTMLElement | null>,
): number {
  const seen = useRef<{ lines: readonly Line[]; places: Map<string, number> }>({ lines: [], places: new Map() });
  const [arrived, setArrived] = useState(0);

  useLayoutEffect(() => {
    // Here is where that is done. It is set as its makers say; there is no option for it.
    // eslint-disable-next-line react-hooks/immutability
    virtualizer.shouldAdjustScrollPositionOnItemSizeChange = () => false;
  }, [virtualizer]);

  // After every drawing: places change with each scroll and each measured line. It sets state only for new lines.
  // eslint-disable-next-line react-hooks/exhaustive-deps
  useLayoutEffect(() => {
    const before = seen.current;
    const start = (key: string) => {
      const index = lines.findIndex((line) => line.key === key);
      return index < 0 ? null : (virtualizer.measurementsCache[index]?.start ?? null);
    };
    if (before.places.size > 0) {
      const hasFocus = list.current?.contains(document.activeElement) === true;
      // Nobody is reading at the top: there the newest belong.
      if (hasFocus || window.scrollY > 8) {
        const anchors = [...before.places.keys()];
        if (cursor !== null && before.places.has(cursor)) anchors.unshift(cursor);
        for (const key of anchors) {
          const now = start(key);
          const then = before.places.get(key);
          if (now === null || then === undefined) continue;
          if (now !== then) window.scrollBy({ behavior: "instant", top: now - then });
          break;
        }
        const first = before.lines === lines ? undefined : before.lines[0]?.key;
        const above = first === undefined ? -1 : lines.findIndex((line) => line.key === first);
        if (above > 0) setArrived((count) => count + above);
      }
    }
    const places = new Map<string, number>();
    for (const { index } of virtualizer.getVirtualItems()) {
      const line = lines[index];
      const place = virtualizer.measurementsCache[index]?.start;
      if (line !== undefined && place !== undefined && place + 8 >= window.scrollY) places.set(line.key, place);
    }
    seen.current = { lines, places };
  });

  useEffect(() => {
    const look = () => {
      const top = list.current?.getBoundingClientRect().top ?? 0;
      if (top >= 0) setArrived(0);
    };
    window.addEventListener("scroll", look, { passive: true });
    return () => window.removeEventListener("scroll", look);
  }, [list]);

  return arrived;
}
