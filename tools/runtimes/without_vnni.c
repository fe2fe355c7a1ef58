/* Makes programs believe that this x86-64 processor has neither VNNI nor AVX-512 nor AMX: AVX2 is the best that is left.

       gcc -O2 -shared -fPIC -o /tmp/without_vnni.so tools/runtimes/without_vnni.c -ldl
       LD_PRELOAD=/tmp/without_vnni.so .venv/bin/pytest tests/models/test_processors.py

   What a program may use it learns by the instruction CPUID. Linux can make that instruction fault (arch_prctl
   ARCH_SET_CPUID, "cpuid_fault" in /proc/cpuinfo); the handler below then runs it itself, clears the bits, and goes on
   behind it. All else runs at full speed on the real processor, so only what asks for the bits takes another way:
   ONNX Runtime then takes its AVX2 kernels, which saturate where those of VNNI do not.

   Exit status 77 at the start of every program if the machine cannot do it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

typedef int Sigaction(int, const struct sigaction *, struct sigaction *);

static Sigaction *system_sigaction;
static struct sigaction of_the_program; /* what it wants done about its own faults */

static long allow_cpuid(long allowed) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed); }

static void answer_cpuid(greg_t *registers) {
    unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a = leaf, b, c = part, d;
    allow_cpuid(1);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    allow_cpuid(0);
    if (leaf == 7 && part == 0) {
        /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL */
        b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
        /* AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
        c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
        /* AVX-512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16; AMX BF16, TILE, INT8 */
        d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(23) | BIT(22) | BIT(24) | BIT(25));
    } else if (leaf == 7 && part == 1) {
        /* AVX-VNNI, AVX-512 BF16, AMX FP16, AVX-IFMA */
        a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));
        /* AVX-VNNI-INT8, AVX-NE-CONVERT, AMX COMPLEX, AVX-VNNI-INT16, AVX10 */
        d &= ~(BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19));
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

static void on_fault(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (info->si_code == SI_KERNEL) { /* no address was at fault, so the instruction can be read */
        const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
        if (instruction[0] == 0x0f && instruction[1] == 0xa2) {
            answer_cpuid(registers);
            return;
        }
    }
    if (of_the_program.sa_flags & SA_SIGINFO)
        of_the_program.sa_sigaction(number, info, context);
    else if (of_the_program.sa_handler != SIG_DFL && of_the_program.sa_handler != SIG_IGN)
        of_the_program.sa_handler(number);
    else { /* the fault comes again, and ends the program */
        struct sigaction none = {.sa_handler = SIG_DFL};
        system_sigaction(SIGSEGV, &none, NULL);
    }
}

/* Stands before the C library's: Python's faulthandler and others must not take the place of the handler above. */
int sigaction(int number, const struct sigaction *wanted, struct sigaction *before) {
    if (!system_sigaction) system_sigaction = (Sigaction *)dlsym(RTLD_NEXT, "sigaction");
    if (number != SIGSEGV) return system_sigaction(number, wanted, before);
    struct sigaction known = of_the_program;
    if (wanted) of_the_program = *wanted;
    if (before) *before = known;
    return 0;
}

__attribute__((constructor)) static void start(void) {
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    system_sigaction = (Sigaction *)dlsym(RTLD_NEXT, "sigaction");
    if (system_sigaction(SIGSEGV, &ours, NULL) || allow_cpuid(0)) {
        perror("without_vnni: this machine cannot hide what its processor has");
        _exit(77);
    }
}
