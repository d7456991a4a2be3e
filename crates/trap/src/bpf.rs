//! The filter program, made from the table of trapped calls.
//!
//! Calls that are not in the table are decided by their number alone, so the kernel remembers them as always allowed
//! (its bitmap, Linux 5.11) and does not run the program for them at all.

use guest::marker::Marker;

use crate::calls::{Condition, Trapped};
use crate::sys::seccomp::Instruction;

/// `AUDIT_ARCH_X86_64` (linux/audit.h).
const ARCH_X86_64: u32 = 0xC000_003E;
/// `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = 0x7fc0_0000;
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const NO_SUCH_PROTOCOL: u32 = libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT as u32;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn low(argument: usize) -> u32 {
    16 + 8 * argument as u32
}
const fn high(argument: usize) -> u32 {
    low(argument) + 4
}

const fn load(offset: u32) -> Instruction {
    Instruction {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

const fn give(value: u32) -> Instruction {
    Instruction {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: value,
    }
}

/// Skips `yes` or `no` instructions.
const fn equal(value: u32, yes: u8, no: u8) -> Instruction {
    Instruction {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: yes,
        jf: no,
        k: value,
    }
}

const fn at_least(value: u32, yes: u8, no: u8) -> Instruction {
    Instruction {
        code: (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16,
        jt: yes,
        jf: no,
        k: value,
    }
}

const fn skip(count: u32) -> Instruction {
    Instruction {
        code: (libc::BPF_JMP | libc::BPF_JA) as u16,
        jt: 0,
        jf: 0,
        k: count,
    }
}

/// The whole program.
pub(crate) fn assemble<'a>(calls: impl Iterator<Item = &'a Trapped>, marker: Marker) -> Vec<Instruction> {
    let calls: Vec<&Trapped> = calls.collect();
    let blocks: Vec<Vec<Instruction>> = calls.iter().map(|call| block(call, marker)).collect();
    let mut program = vec![
        load(ARCH),
        equal(ARCH_X86_64, 1, 0),
        give(NO_SUCH_CALL),
        load(NUMBER),
        at_least(X32, 0, 1),
        give(NO_SUCH_CALL),
        equal(libc::SYS_io_uring_setup as u32, 0, 1),
        give(NO_SUCH_CALL),
        // Multipath TCP: the kernel does not say when such a socket is gone, and programs that prefer it (Go's servers)
        // take plain TCP where it is missing.
        equal(libc::SYS_socket as u32, 0, 4),
        load(low(2)),
        equal(libc::IPPROTO_MPTCP as u32, 0, 1),
        give(NO_SUCH_PROTOCOL),
        give(ALLOW),
    ];
    // Two instructions a call, then ALLOW, then the blocks.
    let mut to_block = 1 + 2 * calls.len() as u32;
    for (call, block) in calls.iter().zip(&blocks) {
        to_block -= 2;
        program.extend([equal(call.number as u32, 0, 1), skip(to_block)]);
        to_block += block.len() as u32;
    }
    program.push(give(ALLOW));
    program.extend(blocks.concat());
    program
}

/// Stops at one call and lets all others pass.
pub(crate) fn only(number: i64) -> [Instruction; 4] {
    [load(NUMBER), equal(number as u32, 0, 1), give(NOTIFY), give(ALLOW)]
}

/// What happens once the number matched.
fn block(call: &Trapped, marker: Marker) -> Vec<Instruction> {
    let mut block = Vec::new();
    match call.condition {
        Condition::Always => {}
        Condition::NotNull(argument) => block.extend([
            load(low(argument)),
            equal(0, 0, 3),
            load(high(argument)),
            equal(0, 0, 1),
            give(ALLOW),
        ]),
        Condition::Equal(pairs) => {
            for (argument, value) in pairs {
                block.extend([load(low(*argument)), equal(*value, 1, 0), give(ALLOW)]);
            }
        }
    }
    if call.may_be_marked {
        let (upper, lower) = ((marker.0 >> 32) as u32, marker.0 as u32);
        block.extend([
            load(high(5)),
            equal(upper, 0, 3),
            load(low(5)),
            equal(lower, 0, 1),
            give(ALLOW),
        ]);
    }
    block.push(give(NOTIFY));
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{CALLS, Scope};

    const MARKER: Marker = Marker(0x5152_5354_6162_6364);

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], arch: u32, number: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend((number as u32).to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                0x20 => accumulator = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                0x15 => at += usize::from(if accumulator == k { jt } else { jf }),
                0x35 => at += usize::from(if accumulator >= k { jt } else { jf }),
                0x05 => at += k as usize,
                0x06 => return k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn each_call_ends_where_the_table_says() {
        let program = assemble(CALLS.iter(), MARKER);
        let marked = [1, 1, 1, 1, 1, MARKER.0];
        for call in CALLS {
            let mut arguments = [7; 6];
            if let Condition::Equal(pairs) = call.condition {
                for (argument, value) in pairs {
                    arguments[*argument] = u64::from(*value);
                }
            }
            assert_eq!(
                run(&program, ARCH_X86_64, call.number, arguments),
                NOTIFY,
                "{}",
                call.name
            );
            if let Condition::NotNull(argument) = call.condition {
                arguments[argument] = 0;
                assert_eq!(
                    run(&program, ARCH_X86_64, call.number, arguments),
                    ALLOW,
                    "{}",
                    call.name
                );
                arguments[argument] = 1 << 32;
                assert_eq!(
                    run(&program, ARCH_X86_64, call.number, arguments),
                    NOTIFY,
                    "{}",
                    call.name
                );
            }
            if call.may_be_marked {
                assert_eq!(run(&program, ARCH_X86_64, call.number, marked), ALLOW, "{}", call.name);
                let half = [1, 1, 1, 1, 1, MARKER.0 & !0xffff_ffff];
                if call.condition == Condition::Always {
                    assert_eq!(run(&program, ARCH_X86_64, call.number, half), NOTIFY, "{}", call.name);
                }
            }
        }
        for number in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_epoll_wait,
            libc::SYS_close,
            9999,
        ] {
            assert_eq!(run(&program, ARCH_X86_64, number, [0; 6]), ALLOW, "{number}");
        }
    }

    #[test]
    fn multipath_tcp_does_not_exist() {
        let program = assemble(CALLS.iter(), MARKER);
        let socket = |protocol: i32| {
            run(
                &program,
                ARCH_X86_64,
                libc::SYS_socket,
                [2, 1, protocol as u64, 0, 0, 0],
            )
        };
        assert_eq!((socket(0), socket(libc::IPPROTO_TCP)), (ALLOW, ALLOW));
        assert_eq!(socket(libc::IPPROTO_MPTCP), NO_SUCH_PROTOCOL);
    }

    #[test]
    fn foreign_architectures_and_rings_do_not_exist() {
        let program = assemble(CALLS.iter().filter(|call| call.scope == Scope::Always), MARKER);
        assert_eq!(run(&program, 0x4000_0003, libc::SYS_connect, [0; 6]), NO_SUCH_CALL);
        assert_eq!(
            run(&program, ARCH_X86_64, i64::from(X32) | libc::SYS_connect, [0; 6]),
            NO_SUCH_CALL
        );
        assert_eq!(
            run(&program, ARCH_X86_64, libc::SYS_io_uring_setup, [0; 6]),
            NO_SUCH_CALL
        );
        assert_eq!(run(&program, ARCH_X86_64, libc::SYS_openat, [0; 6]), ALLOW);
    }
}
