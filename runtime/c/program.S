// One of the bytecodes of a program as read-only data; BYTECODE_NAME and BYTECODE_FILE come from the build. The linker puts
// the entries of all of them side by side: struct bytecode of runtime.h.
    .section .rodata
    .balign 8
1:
    .incbin BYTECODE_FILE
2:
    .string BYTECODE_NAME
    .section bytecodes, "aR"
    .balign 8
    .quad 2b, 1b, 2b - 1b
    .section .note.GNU-stack, "", @progbits
