# /etc/profile resets PATH for login shells. User dev has sudo and so needs sbin.
PATH="$HOME/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH
