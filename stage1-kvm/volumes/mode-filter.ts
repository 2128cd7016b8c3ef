/**
 * A seccomp filter below virtiofsd's own: a guest can give no file of this host a set-uid or set-gid bit. What root of a
 * guest writes into a shared directory belongs to root here; with such a bit it would be a way to become root here
 * for whoever can execute it. (linux/seccomp.h, Documentation/userspace-api/seccomp_filter.rst)
 */
import {
  AUDIT_ARCH_X86_64, BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, EPERM, NR_chmod, NR_creat, NR_fchmod, NR_fchmodat, NR_mknod, NR_mknodat, NR_open, NR_openat, O_CREAT,
  O_DIRECTORY, O_TMPFILE, S_ISGID, S_ISUID, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, seccomp_data_arch, seccomp_data_args, seccomp_data_nr, sizeof_sock_filter, sizeof_sock_fprog,
  sock_filter_code, sock_filter_jf, sock_filter_jt, sock_filter_k, sock_fprog_filter, sock_fprog_len,
} from '../../runtime/abi.gen.ts';
import { pointTo } from '../../runtime/sys.ts';

/** Newer than the headers (asm/unistd_64.h). */
const NR_fchmodat2 = 452;
/** Which argument is the mode, and which says whether there is one. */
const CALLS: readonly { nr: number; mode: number; flags?: number }[] = [
  { nr: NR_open, mode: 2, flags: 1 }, { nr: NR_openat, mode: 3, flags: 2 }, { nr: NR_creat, mode: 1 },
  { nr: NR_chmod, mode: 1 }, { nr: NR_fchmod, mode: 1 }, { nr: NR_fchmodat, mode: 2 }, { nr: NR_fchmodat2, mode: 2 },
  { nr: NR_mknod, mode: 1 }, { nr: NR_mknodat, mode: 2 },
];
/** Without them the mode means nothing. O_TMPFILE contains O_DIRECTORY. */
const CREATES = O_CREAT | (O_TMPFILE & ~O_DIRECTORY);
const ARGUMENT_BYTES = 8;

interface Instruction {
  code: number;
  jt?: number;
  jf?: number;
  k: number;
}

const load = (offset: number): Instruction => ({ code: BPF_LD | BPF_W | BPF_ABS, k: offset });
/** The lower half: modes and flags have 32 bits. */
const loadArgument = (index: number): Instruction => load(seccomp_data_args + index * ARGUMENT_BYTES);
const answer = (action: number): Instruction => ({ code: BPF_RET | BPF_K, k: action });
const ALLOW = answer(SECCOMP_RET_ALLOW);

/** A `struct sock_fprog`. */
export function modeFilter(): Uint8Array {
  const program: Instruction[] = [
    load(seccomp_data_arch),
    { code: BPF_JMP | BPF_JEQ | BPF_K, k: AUDIT_ARCH_X86_64, jt: 1 },
    answer(SECCOMP_RET_KILL_PROCESS),
    load(seccomp_data_nr),
    ...CALLS.flatMap((call) => {
      const judgement = judge(call);
      return [{ code: BPF_JMP | BPF_JEQ | BPF_K, k: call.nr, jf: judgement.length }, ...judgement];
    }),
    ALLOW,
  ];
  return encode(program);
}

/** Ends in an answer on every way. */
function judge({ mode, flags }: { mode: number; flags?: number }): Instruction[] {
  const ofMode = [loadArgument(mode), { code: BPF_JMP | BPF_JSET | BPF_K, k: S_ISUID | S_ISGID, jf: 1 }, answer(SECCOMP_RET_ERRNO | EPERM), ALLOW];
  if (flags === undefined) return ofMode;
  return [loadArgument(flags), { code: BPF_JMP | BPF_JSET | BPF_K, k: CREATES, jt: 1 }, ALLOW, ...ofMode];
}

function encode(program: readonly Instruction[]): Uint8Array {
  const filter = new Uint8Array(program.length * sizeof_sock_filter);
  const view = new DataView(filter.buffer);
  program.forEach(({ code, jt = 0, jf = 0, k }, index) => {
    const at = index * sizeof_sock_filter;
    view.setUint16(at + sock_filter_code, code, true);
    view.setUint8(at + sock_filter_jt, jt);
    view.setUint8(at + sock_filter_jf, jf);
    view.setUint32(at + sock_filter_k, k, true);
  });
  const header = new Uint8Array(sizeof_sock_fprog);
  new DataView(header.buffer).setUint16(sock_fprog_len, program.length, true);
  pointTo(header, sock_fprog_filter, filter);
  return header;
}
