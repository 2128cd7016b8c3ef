/**
 * The named sets of appc's seccomp isolators, with rkt's names. The whitelist is Docker's default of today without what depends
 * on capabilities; the systemd sets are those of version 233.
 */
import { BadFieldError } from '../checked.ts';

const DEFAULT_WHITELIST =
  'accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chown32 chroot clock_adjtime clock_adjtime64 ' +
  'clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 clone clone3 close close_range connect ' +
  'copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd ' +
  'eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown ' +
  'fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ' +
  'ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd ' +
  'getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid ' +
  'getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid ' +
  'getuid32 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents ' +
  'io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self ' +
  'lchown lchown32 lgetxattr link linkat listen listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack ' +
  'membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr ' +
  'mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock ' +
  'munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause personality pidfd_open pidfd_send_signal pipe pipe2 ' +
  'pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv ' +
  'process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg ' +
  'recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending ' +
  'rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max ' +
  'sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 ' +
  'sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send ' +
  'sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid ' +
  'setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 ' +
  'setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaction sigaltstack signal signalfd signalfd4 ' +
  'sigpending sigprocmask sigreturn sigsuspend socket socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync ' +
  'sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime ' +
  'timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit ' +
  'umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev';

const DEFAULT_BLACKLIST =
  'acct add_key bpf clock_adjtime clock_settime clock_settime64 create_module delete_module finit_module get_kernel_syms get_mempolicy init_module ' +
  'ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind mount move_pages name_to_handle_at nfsservctl open_by_handle_at ' +
  'perf_event_open personality pivot_root process_vm_readv process_vm_writev ptrace query_module quotactl reboot request_key set_mempolicy setns ' +
  'settimeofday stime swapoff swapon sysfs _sysctl umount umount2 unshare uselib userfaultfd ustat vm86 vm86old';

const CLOCK = 'adjtimex clock_adjtime clock_settime clock_settime64 settimeofday stime';
const RAW_IO = 'ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write';

const SETS: Record<string, string> = {
  '@appc.io/empty': '',
  '@rkt/default-whitelist': DEFAULT_WHITELIST,
  '@rkt/default-blacklist': DEFAULT_BLACKLIST,
  '@docker/default-whitelist': DEFAULT_WHITELIST,
  '@docker/default-blacklist': DEFAULT_BLACKLIST,
  '@systemd/clock': CLOCK,
  '@systemd/default-whitelist':
    'clock_getres clock_gettime clock_nanosleep execve exit exit_group futex get_robust_list get_thread_area getegid getegid32 geteuid geteuid32 getgid ' +
    'getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getresgid getresgid32 getresuid getresuid32 getrlimit getsid gettid gettimeofday ' +
    'getuid getuid32 nanosleep pause restart_syscall rt_sigreturn set_robust_list set_thread_area set_tid_address sigreturn time ugetrlimit',
  '@systemd/mount': 'chroot mount pivot_root umount umount2',
  '@systemd/network-io':
    'accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmsg send sendmmsg sendmsg sendto setsockopt ' +
    'shutdown socket socketcall socketpair',
  '@systemd/obsolete':
    '_sysctl afs_syscall break create_module ftime get_kernel_syms getpmsg gtty lock mpx prof profil putpmsg query_module security sgetmask ssetmask ' +
    'stty sysfs tuxcall ulimit uselib ustat vserver',
  '@systemd/privileged':
    `${CLOCK} ${RAW_IO} _sysctl acct bdflush bpf capset chown chown32 chroot delete_module fchown fchown32 fchownat finit_module init_module keyctl ` +
    'lchown lchown32 nfsservctl pivot_root quotactl reboot setdomainname setfsuid setfsuid32 setgroups setgroups32 sethostname setresuid ' +
    'setresuid32 setreuid setreuid32 setuid setuid32 swapoff swapon vhangup',
  '@systemd/process': 'arch_prctl clone clone3 execve execveat fork kill prctl setns tgkill tkill unshare vfork',
  '@systemd/raw-io': RAW_IO,
};

/** Always allowed next to a retain set, as systemd does it: without these no program starts or ends. */
export const ALWAYS_RETAINED =
  'execve exit exit_group getrlimit rt_sigreturn sigreturn clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep pause time ugetrlimit';

export const ALL = '@appc.io/all';
export const EMPTY = '@appc.io/empty';
export const RKT_DEFAULT = '@rkt/default-whitelist';

/** Wildcards replaced by their members. Names are taken as they are: one that no kernel knows has no effect. */
export function expandSet(entries: readonly string[]): Set<string> {
  const names = new Set<string>();
  for (const entry of entries) {
    if (!entry.startsWith('@')) {
      names.add(entry);
      continue;
    }
    const members = SETS[entry];
    if (members === undefined) throw new BadFieldError(`unknown seccomp wildcard "${entry}"`);
    for (const name of members.split(' ')) names.add(name);
  }
  return names;
}
