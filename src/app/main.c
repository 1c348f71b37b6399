/* The program's entry: dispatches to the commands. */
#include <stdio.h>

int main(void)
{
    puts("capstan " CAPSTAN_VERSION);
    return 0;
}
