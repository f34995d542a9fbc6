"""From images to rows: plan, decode, embed; in threads or on Ray."""
