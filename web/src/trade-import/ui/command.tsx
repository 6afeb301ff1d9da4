"use client";

import { Check, Copy } from "lucide-react";
import { useState } from "react";
import { Button } from "./button";

/** A line for a terminal, and a button that copies it. */
export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () => {
    void navigator.clipboard.writeText(text).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 2_000);
    });
  };
  return (
    <div className="my-1.5 flex items-center gap-2 rounded-md bg-ti-sunken py-1 pr-1 pl-3">
      <code className="min-w-0 flex-1 text-[0.8125rem] [overflow-wrap:anywhere]">{text}</code>
      <Button look="quiet" size="icon" aria-label={copied ? "Copied" : "Copy"} onClick={copy}>
        {copied ? <Check aria-hidden className="size-4" /> : <Copy aria-hidden className="size-4" />}
      </Button>
    </div>
  );
}
