/* PID 1 that does nothing: how fast a virtual machine with our kernel can be at all. QEMU's -no-reboot turns the reset into its exit. */
#include <sys/reboot.h>

int main(void)
{
	reboot(RB_AUTOBOOT);
	return 1;
}
