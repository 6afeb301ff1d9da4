import { describe, expect, test } from "vitest";
import { clock, day, moment, relative, span, startOfDay, utc } from "./instant";

const AT = Date.UTC(2026, 10, 23, 6, 4, 12, 345);

test("an instant in a zone and in UTC", () => {
  expect(moment(AT, "Europe/Berlin")).toBe("2026-11-23 07:04:12");
  expect(day(AT, "America/Los_Angeles")).toBe("2026-11-22");
  expect(clock(AT, "Asia/Kolkata")).toBe("11:34:12");
  expect(utc(AT)).toBe("2026-11-23 06:04:12.345 UTC");
  expect(utc(AT - 345)).toBe("2026-11-23 06:04:12 UTC");
  expect(clock(Date.UTC(2026, 0, 1), "UTC")).toBe("00:00:00");
});

test("how long ago", () => {
  expect(span(59_999)).toBe("a moment");
  expect(span(60_000)).toBe("1 minute");
  expect(span(7_200_000)).toBe("2 hours");
  expect(span(3 * 86_400_000)).toBe("3 days");
  expect(relative(AT - 180_000, AT)).toBe("3 minutes ago");
  expect(relative(AT + 3_600_000, AT)).toBe("in 1 hour");
  expect(relative(AT + 4_999, AT)).toBe("now");
});

describe("the start of a day", () => {
  test.each([
    ["2026-11-23", "UTC", Date.UTC(2026, 10, 23)],
    ["2026-11-23", "America/New_York", Date.UTC(2026, 10, 23, 5)],
    // The day on which clocks go forward starts as usual, the next one an hour earlier.
    ["2026-03-08", "America/New_York", Date.UTC(2026, 2, 8, 5)],
    ["2026-03-09", "America/New_York", Date.UTC(2026, 2, 9, 4)],
    ["2026-11-23", "Pacific/Kiritimati", Date.UTC(2026, 10, 22, 10)],
    ["2026-11-23", "Pacific/Pago_Pago", Date.UTC(2026, 10, 23, 11)],
  ])("%s in %s", (date, zone, expected) => {
    expect(startOfDay(date, zone)).toBe(expected);
  });

  test.each(["", "23.11.2026", "2026-02-30", "2026-13-01", "2026-1-1"])("%s is no day", (date) => {
    expect(startOfDay(date, "UTC")).toBeNull();
  });
});
