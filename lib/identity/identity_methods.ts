/** What the coordinator offers to everybody for their identity. */
import { z } from "zod";

/** The methods that a coordinator offers to agents and operators for their identity. */
export const IDENTITY_METHODS = {
  /** A new certificate of the same name, for who has proven the old one by the connection. */
  "identity.renew": {
    params: z.strictObject({ csr: z.string().max(8 << 10) }),
    result: z.strictObject({ certificate: z.string().max(16 << 10) }),
  },
} as const;
