/** Users and groups of an app. All paths are the app's: call it with the app's root as this process's root. */
import { O_NOCTTY, O_NONBLOCK, O_RDONLY } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { fstat, isRegularFile, open, readToEnd, statIfAny } from '../../runtime/linux/files.ts';
import { parseDecimal } from '../checked.ts';

/** Large enough for any sensible passwd or group file. */
const DATABASE_MAX_BYTES = 4 << 20;

export class UnknownUserError extends Error {
  override readonly name = 'UnknownUserError';
  readonly kind: 'user' | 'group';

  constructor(kind: 'user' | 'group', name: string, reason = '') {
    super(`unknown ${kind} "${name}"${reason}`);
    this.kind = kind;
  }
}

export interface Identity {
  uid: number;
  gid: number;
  supplementaryGids: number[];
  /** Known only to an app whose /etc/passwd has the user. */
  account: { name: string; home: string; shell: string } | undefined;
}

interface Account {
  name: string;
  uid: number;
  gid: number;
  home: string;
  shell: string;
}

export interface UserSpec {
  user: string;
  group: string;
  supplementaryGids: number[];
  /** Nobody has named a group (PRIMARY_GROUP of src/schema/appc.ts). */
  groupIsPrimary: boolean;
}

/** Numeric, or an absolute path whose owner is meant, or a name. */
export function resolveIdentity(spec: UserSpec): Identity {
  const { uid, account } = resolveUser(spec.user);
  if (spec.groupIsPrimary) return { uid, gid: account?.gid ?? 0, supplementaryGids: [...new Set([...groupsOf(account), ...spec.supplementaryGids])], account };
  // An image that docker2aci has converted names only a user; the name is repeated as the group.
  const gid = resolveGroup(spec.group, spec.group === '' || spec.group === spec.user ? account?.gid : undefined);
  return { uid, gid, supplementaryGids: spec.supplementaryGids, account };
}

function resolveUser(user: string): { uid: number; account: Account | undefined } {
  const number = idNumber(user);
  if (number !== undefined) return { uid: number, account: findAccount((account) => account.uid === number) };
  if (user.startsWith('/')) {
    const status = statIfAny(user);
    if (status === undefined) throw new UnknownUserError('user', user, ': no such file in the image');
    return { uid: status.uid, account: findAccount((account) => account.uid === status.uid) };
  }
  const account = findAccount((candidate) => candidate.name === user);
  if (account === undefined) throw new UnknownUserError('user', user);
  return { uid: account.uid, account };
}

function resolveGroup(group: string, primary: number | undefined): number {
  if (group === '') return primary ?? 0;
  const number = idNumber(group);
  if (number !== undefined) return number;
  if (group.startsWith('/')) {
    const status = statIfAny(group);
    if (status === undefined) throw new UnknownUserError('group', group, ': no such file in the image');
    return status.gid;
  }
  const entry = databaseLines('/etc/group').find((fields) => fields[0] === group);
  const gid = entry === undefined ? primary : idNumber(entry[2] ?? '');
  if (gid === undefined) throw new UnknownUserError('group', group);
  return gid;
}

/** Those that list the user as a member. */
function groupsOf(account: Account | undefined): number[] {
  if (account === undefined) return [];
  return databaseLines('/etc/group').flatMap(([, , gidText, members]) => {
    const gid = idNumber(gidText ?? '');
    return gid !== undefined && (members ?? '').trim().split(',').includes(account.name) ? [gid] : [];
  });
}

function idNumber(text: string): number | undefined {
  const number = parseDecimal(text);
  return number !== undefined && number <= 0xfffffffe ? number : undefined;
}

/** Names by number, as far as the app's /etc/passwd has them. */
export function userNames(): Map<number, string> {
  const names = new Map<number, string>();
  for (const [name, , uidText] of databaseLines('/etc/passwd')) {
    const uid = idNumber(uidText ?? '');
    if (name !== undefined && uid !== undefined && !names.has(uid)) names.set(uid, name);
  }
  return names;
}

function findAccount(matches: (account: Account) => boolean): Account | undefined {
  for (const [name, , uidText, gidText, , home, shell] of databaseLines('/etc/passwd')) {
    const uid = idNumber(uidText ?? '');
    const gid = idNumber(gidText ?? '');
    if (name === undefined || uid === undefined || gid === undefined) continue;
    const account = { name, uid, gid, home: home ?? '', shell: shell ?? '' };
    if (matches(account)) return account;
  }
  return undefined;
}

/** The image decides what is behind the path: anything but a file of moderate size counts as empty. */
function databaseLines(path: string): string[][] {
  let fd: number;
  try {
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    return [];
  }
  try {
    const status = fstat(fd);
    if (!isRegularFile(status) || status.sizeBytes > DATABASE_MAX_BYTES) return [];
    return sys.text(readToEnd(fd, DATABASE_MAX_BYTES)).split('\n').map((line) => line.split(':'));
  } finally {
    close(fd);
  }
}
