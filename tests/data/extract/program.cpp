/* Head. */
#include <stdio.h>

static int twice(int x)
{
    return 2 * x;
}

struct point {
    int x;
};

int main(void)
{
    return twice(1);
}
