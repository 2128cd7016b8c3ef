// The program's bytecode as read-only data; BYTECODE_FILE comes from the build.
    .section .rodata
    .global program_bytecode, program_bytecode_size
    .balign 8
program_bytecode:
    .incbin BYTECODE_FILE
1:
    .balign 4
program_bytecode_size:
    .long 1b - program_bytecode
    .section .note.GNU-stack, "", @progbits
