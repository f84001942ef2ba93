# /etc/profile resets PATH for login shells; dev has sudo, so sbin is useful.
PATH="$HOME/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH
