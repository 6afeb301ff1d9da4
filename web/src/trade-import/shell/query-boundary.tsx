"use client";

import { TriangleAlert } from "lucide-react";
import { Component, type ReactNode } from "react";
import { Button } from "../ui/button";
import { EmptyState } from "../ui/states";

type Props = { children: ReactNode; fallback?: ReactNode };

/** A query that fails throws where it is read; here it ends as a sentence and a button. */
export class QueryBoundary extends Component<Props, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    if (this.props.fallback !== undefined) return this.props.fallback;
    return (
      <EmptyState icon={TriangleAlert} title="This could not be loaded">
        <p>The server answered with an error. Nothing was changed.</p>
        <Button className="mt-4" onClick={() => this.setState({ failed: false })}>
          Try again
        </Button>
      </EmptyState>
    );
  }
}
